-- Dead letters belong to whom their topic names, so that those people may look at them, try them again or discard them.

ALTER TABLE dead_letters
    ADD COLUMN agent_id uuid REFERENCES agents (agent_id) ON DELETE CASCADE,
    ADD COLUMN device_id uuid REFERENCES devices (device_id) ON DELETE SET NULL,
    ADD COLUMN direction text NOT NULL DEFAULT 'in' CHECK (direction IN ('in', 'out')),
    ADD COLUMN retain boolean NOT NULL DEFAULT false,
    ADD COLUMN tries integer NOT NULL DEFAULT 1 CHECK (tries > 0),
    ADD COLUMN tried_at timestamptz;

-- Topics that the hub wrote stand below its root.
UPDATE dead_letters SET direction = 'out' WHERE topic ~ '^(d|ui|hub)/';
UPDATE dead_letters AS l SET agent_id = d.agent_id, device_id = d.device_id
FROM devices AS d WHERE d.handle = substring(l.topic FROM '(?:^|/)d/([a-z0-9-]+)/');

CREATE INDEX dead_letters_agent_idx ON dead_letters (agent_id, dead_letter_id DESC);
CREATE INDEX dead_letters_device_idx ON dead_letters (device_id);
