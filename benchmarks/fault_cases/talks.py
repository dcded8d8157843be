"""Days of chats and sessions whose files change between two starts."""

CASES = ()
