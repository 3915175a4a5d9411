DROP TABLE telemetry_watches;
DROP TABLE telemetry_streams;
DROP FUNCTION telemetry_forget();
DROP TABLE telemetry_forgotten;
DROP TABLE telemetry_stale;
DROP TABLE telemetry_hours;
DROP TABLE telemetry_minutes;
DROP TABLE telemetry_samples;
