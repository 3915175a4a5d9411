DROP TABLE enrolments;
DROP TABLE claim_codes;
