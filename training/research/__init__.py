"""What researchers ask beyond one training run: experiments, maps, published figures, rivals."""
