"""Static specification of each exchange: names, symbol spelling, sequence scheme."""
