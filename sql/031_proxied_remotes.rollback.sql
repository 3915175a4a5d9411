DROP TABLE proxied_remotes;
