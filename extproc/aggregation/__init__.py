"""One answer out of many calls: a plan made when the gateway file loads, run per request."""
