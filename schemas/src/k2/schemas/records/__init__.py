"""Records that K2 stores, as Python values between the socket and Kafka."""
