"""What training a U-Net on a CPU needs beyond torch: the gradient of a convolution's weight in channels-last."""
