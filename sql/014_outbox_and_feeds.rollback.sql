DROP TABLE feed_entries;
DROP TABLE feed_revisions;
DROP TABLE retained_topics;
DROP TABLE outbox;
