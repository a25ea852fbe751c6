"""The drawn data sets ToyVOC and ToyCIFAR."""
