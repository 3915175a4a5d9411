"""The whole of Marvain put together: the command line, the supervisor and the embedded database."""
