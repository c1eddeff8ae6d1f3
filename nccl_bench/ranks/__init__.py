"""The process of one rank, the messages between ranks on the host, and the files for ranks and launcher."""
