"""The masking audit: can a robustness number be trusted?"""
