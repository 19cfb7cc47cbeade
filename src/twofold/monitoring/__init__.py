"""Where an application stands, looked up once for all who ask, and told as figures to Prometheus and OpenTelemetry."""
