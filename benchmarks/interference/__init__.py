"""Which number predicts how much a later update costs an earlier day?"""
