"""Processes that hold a device, the data and lanes, and the executors that start them."""
