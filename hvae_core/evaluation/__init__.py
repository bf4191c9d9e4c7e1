"""The paper's measurements, one module an application. Each turns a trained model into columns of the results."""
