"""The Orders API over HTTP beside the bare route with the same validation, and beside other ways to store orders."""
