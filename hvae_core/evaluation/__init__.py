"""The papers' measurements, one module each: a trained model and images in, columns of the results out."""
