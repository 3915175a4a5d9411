DROP TABLE schedules, notify_channels, outside_hosts;
