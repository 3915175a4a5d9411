DROP TABLE command_steps;
DROP TABLE commands;
