"""The archive: payloads of closed streams in files of Parquet, and what is wrong with those."""
