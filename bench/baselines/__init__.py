"""The engines and programs that K2 is compared with."""
