"""Images on disk: folders, ImageNet and its shifts, Parquet; read when asked for, checked before."""
