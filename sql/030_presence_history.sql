-- What was known of a device's connection over time, whether it loses it again and again, and when nobody looked.

ALTER TABLE device_presence
    DROP CONSTRAINT device_presence_verdict_check,
    DROP CONSTRAINT device_presence_source_check,
    ADD CONSTRAINT device_presence_verdict_check
        CHECK (verdict IN ('online', 'suspect', 'offline', 'sleeping', 'unknown')),
    ADD CONSTRAINT device_presence_source_check CHECK (source IN ('mqtt', 'http', 'proxy')),
    -- Losses of the connection, each weighing less the longer ago it was (hub/flapping.py), as they were at unrest_at.
    ADD COLUMN unrest double precision NOT NULL DEFAULT 0 CHECK (unrest >= 0),
    ADD COLUMN unrest_at timestamptz,
    ADD COLUMN flapping boolean NOT NULL DEFAULT false;
-- Who flaps is looked at again and again, until it has been quiet for a while.
CREATE INDEX device_presence_flapping_idx ON device_presence (device_id) WHERE flapping;

-- One row for each verdict that was drawn; it stood until the next one of the device.
CREATE TABLE presence_history (
    change_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    at timestamptz NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('online', 'suspect', 'offline', 'sleeping', 'unknown')),
    why text NOT NULL,
    epoch bigint NOT NULL CHECK (epoch >= 0),
    CONSTRAINT presence_history_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE
);
CREATE INDEX presence_history_device_idx ON presence_history (device_id, change_no DESC);
CREATE INDEX presence_history_agent_idx ON presence_history (agent_id);
CREATE INDEX presence_history_at_idx ON presence_history (at);

-- What stands now is where the history of those begins that were ever heard.
INSERT INTO presence_history (device_id, agent_id, at, verdict, why, epoch)
SELECT p.device_id, d.agent_id, p.since, p.verdict, p.why, p.epoch
FROM device_presence AS p JOIN devices AS d USING (device_id) WHERE p.last_heard_at IS NOT NULL
ORDER BY p.since, p.device_id;

-- The stretches of time in which the hub heard and judged: outside of them nothing is known of anybody.
CREATE TABLE presence_watches (
    watch_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    CHECK (until >= since)
);
CREATE INDEX presence_watches_until_idx ON presence_watches (until);
