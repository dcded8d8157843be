"""Does a pretrained model answer tomorrow what it was told today?"""
