-- duoflow set-up. Run once in the job's database, by its administrator; running it again is harmless.
-- Rights needed: CREATEROLE, CREATE on this database, the right to grant on the job's tables, and the
-- right to grant pg_signal_backend and pg_read_all_stats.
BEGIN;
SELECT pg_advisory_xact_lock(7303014823101);

-- 1. Roles. Names that exist are left as they are.
DO $setup$
DECLARE
  grp text := {{group}};
  has_options boolean := current_setting('server_version_num')::int >= 160000;
BEGIN
  -- holds the rights; nobody logs in as it
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = grp) THEN
    EXECUTE format('CREATE ROLE %I NOLOGIN', grp);
  END IF;
  -- what every daemon acts as: the one grantor
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'duoflow') THEN
    CREATE ROLE duoflow NOLOGIN CREATEROLE;
  END IF;
  IF NOT pg_has_role('duoflow', grp, 'MEMBER WITH ADMIN OPTION') THEN
    IF has_options THEN
      EXECUTE format('GRANT %I TO duoflow WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', grp);
    ELSE
      EXECUTE format('GRANT %I TO duoflow WITH ADMIN OPTION', grp);
    END IF;
  END IF;
  IF NOT pg_has_role('duoflow', 'pg_signal_backend', 'USAGE') THEN
    GRANT pg_signal_backend TO duoflow; -- to end old sessions
  END IF;
  IF NOT pg_has_role('duoflow', 'pg_read_all_stats', 'USAGE') THEN
    GRANT pg_read_all_stats TO duoflow; -- to see whether they are idle
  END IF;
END
$setup$;
{{fencers}}
-- 2. The fence: one row for each job.
CREATE SCHEMA IF NOT EXISTS duoflow;
CREATE TABLE IF NOT EXISTS duoflow.fence (
  job   text PRIMARY KEY,
  epoch bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
  node  text NOT NULL DEFAULT '',
  token text NOT NULL DEFAULT '',
  at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- The life of the cluster whose node took the row: how many restores and recoveries there were before. Only where it is missing: even an
-- ALTER that finds nothing to do waits for every reader of the table, and has all later ones wait behind it.
DO $setup$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid = 'duoflow.fence'::regclass AND attname = 'life' AND NOT attisdropped) THEN
    PERFORM set_config('lock_timeout', '5s', true);
    ALTER TABLE duoflow.fence ADD COLUMN life bigint NOT NULL DEFAULT 0;
    PERFORM set_config('lock_timeout', '0', true);
  END IF;
END
$setup$;
CREATE TABLE IF NOT EXISTS duoflow.event (
  id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job   text NOT NULL,
  epoch bigint NOT NULL,
  node  text NOT NULL,
  kind  text NOT NULL,
  at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS event_job ON duoflow.event (job, id);
-- The doctor writes here through an epoch role.
CREATE TABLE IF NOT EXISTS duoflow.scratch (
  epoch bigint NOT NULL,
  at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- What a job with a schedule has run, written as its epochs. A slot is done once.
CREATE TABLE IF NOT EXISTS duoflow.run (
  job   text NOT NULL,
  slot  timestamptz NOT NULL,
  epoch bigint NOT NULL,
  node  text NOT NULL,
  state text NOT NULL CHECK (state IN ('seen', 'started', 'done', 'failed')), -- seen: nothing before is ever run
  began timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended timestamptz,
  exit  integer,
  PRIMARY KEY (job, slot, epoch)
);
CREATE UNIQUE INDEX IF NOT EXISTS run_done ON duoflow.run (job, slot) WHERE state = 'done';
INSERT INTO duoflow.fence (job) VALUES {{rows}} ON CONFLICT (job) DO NOTHING;

{{functions}}
-- 3. Rights of the daemons.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA duoflow FROM PUBLIC;
GRANT USAGE ON SCHEMA duoflow TO duoflow;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA duoflow TO duoflow;
GRANT SELECT, UPDATE ON duoflow.fence TO duoflow;
GRANT SELECT, INSERT, DELETE ON duoflow.event TO duoflow;
GRANT SELECT, DELETE ON duoflow.scratch TO duoflow;
GRANT SELECT ON duoflow.run TO duoflow;

-- 4. Rights of the job, through the group. UPDATE of "at", which is only shown, is what Postgres asks
-- for SELECT ... FOR SHARE: a job checks its epoch that way inside a transaction.
GRANT USAGE ON SCHEMA duoflow TO {{group_ident}};
GRANT SELECT, UPDATE (at) ON duoflow.fence TO {{group_ident}};
GRANT SELECT, INSERT ON duoflow.scratch TO {{group_ident}};
GRANT SELECT, INSERT, DELETE, UPDATE (state, ended, exit) ON duoflow.run TO {{group_ident}};
{{mirror}}GRANT USAGE ON SCHEMA public TO {{group_ident}};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {{group_ident}};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {{group_ident}};
{{owner}}COMMIT;
