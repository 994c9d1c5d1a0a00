"""Publishing on Hugging Face: what a Space and a model card have to say, and a Space's folder built from this tree.

Nothing here contacts the Hub except `push`; nothing here imports torch.
"""
