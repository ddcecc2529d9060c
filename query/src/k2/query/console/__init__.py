"""The console: one page that shows what the API knows. Its files are served as they are written, without a build."""
