"""Logs as files: `export_log` writes one, `import_log` reads it.

1. `header.py` says what stands at the beginning and at the end of every such file.
2. `lines.py` makes lines of JSON of rows and back; `json_lines.py` and `parquet.py` are the two formats.
3. `exporting.py` and `importing.py` go between a log and a file, chunk by chunk, and go on where they were interrupted.
4. `restoring.py` stores the rows of another log; a copy does so, too.
"""
