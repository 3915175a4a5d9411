DROP TABLE automation_queue, automation_states, automations;
DROP FUNCTION automation_queue_told();
