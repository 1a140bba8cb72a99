-- Beside examples/schema.sql: the calls of the gateway, and what they took.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- One row a call, written with its charge: who retries charges once.
CREATE TABLE IF NOT EXISTS api.call (
	id uuid PRIMARY KEY,
	key_id uuid NOT NULL,
	project text NOT NULL,
	prompt_tokens bigint NOT NULL,
	completion_tokens bigint NOT NULL,
	reserved bigint NOT NULL,
	ended_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON api.call TO web;
RESET client_min_messages;
