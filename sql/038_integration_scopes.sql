-- What integrations may ask of the hub, beside speaking on their own topics; and as whom they decide.

ALTER TABLE integrations
    ADD COLUMN scopes jsonb NOT NULL DEFAULT '[]'::jsonb
        CHECK (jsonb_typeof(scopes) = 'array' AND scopes <@ '["actions:propose", "actions:approve"]'::jsonb),
    ADD COLUMN decides_as text NOT NULL DEFAULT 'member' CHECK (decides_as IN ('member', 'admin'));
