"""The domain of Marvain: who may do what, what devices said, what was asked of them, and what people are told."""
