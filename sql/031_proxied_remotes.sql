-- Remotes that cannot speak for themselves: another satellite of the same agent checks an address and reports for them.

CREATE TABLE proxied_remotes (
    device_id uuid PRIMARY KEY,
    agent_id uuid NOT NULL,
    proxy_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('network', 'serial')),
    address text NOT NULL CHECK (length(address) BETWEEN 1 AND 120),
    every_s double precision NOT NULL CHECK (every_s BETWEEN 5 AND 3600),
    assigned_at timestamptz NOT NULL DEFAULT now(),
    reported_at timestamptz,
    CONSTRAINT proxied_remotes_other_check CHECK (device_id <> proxy_id),
    CONSTRAINT proxied_remotes_device_fkey FOREIGN KEY (device_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE,
    CONSTRAINT proxied_remotes_proxy_fkey FOREIGN KEY (proxy_id, agent_id)
        REFERENCES devices (device_id, agent_id) ON DELETE CASCADE
);
CREATE INDEX proxied_remotes_proxy_idx ON proxied_remotes (proxy_id);
CREATE INDEX proxied_remotes_agent_idx ON proxied_remotes (agent_id);
