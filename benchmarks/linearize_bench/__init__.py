"""Small trained models, and how well the error of swapping their attention is predicted."""
