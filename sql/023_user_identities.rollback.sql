DROP TABLE foreign_sign_ins;
DROP TABLE user_identities;
