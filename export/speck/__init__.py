"""SynSense Speck: nine asynchronous convolution cores of integrate-and-fire neurons."""
