"""Principal + request → decision: policies of rules in CEL."""
