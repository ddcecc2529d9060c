"""What a release needs beside the build: digests of images, and lists of what is in them."""
