"""The development stack: real servers as child processes on 127.0.0.1, without Docker, root, Java or Maven."""
