-- The fence, as it runs inside the server. Every function works on one job in one statement of its
-- caller, so a client that freezes in the middle can hold no lock. Whatever changes the roles of a
-- job first locks the job's row: changes of one job never interleave.

CREATE OR REPLACE FUNCTION duoflow.epoch_roles(p_job text, p_group text)
RETURNS TABLE (name name, id oid, epoch bigint)
LANGUAGE sql STABLE
AS $duoflow$
  SELECT found.rolname, found.oid, found.epoch
  FROM (SELECT r.rolname, r.oid,
          CASE WHEN substr(r.rolname, length(f.prefix) + 1) ~ '^[1-9][0-9]{0,17}$'
               THEN substr(r.rolname, length(f.prefix) + 1)::bigint END AS epoch
        FROM pg_catalog.pg_roles r, (SELECT format('df_%s_%s_e', p_group, p_job) AS prefix) f
        WHERE starts_with(r.rolname, f.prefix)) found
  WHERE found.epoch IS NOT NULL
$duoflow$;

-- take moves the job's row to a higher epoch, disarms every other epoch role and makes the new one.
-- outcome: taken | done (this very claim has it already) | released (it had it, and gave it back)
-- | stale (the row is not below p_epoch) | ahead (a role of that epoch or a higher one exists)
-- | replaced (the row was taken by a later life of the cluster, so the taker's is over).
CREATE OR REPLACE FUNCTION duoflow.take(
  p_job text, p_group text, p_epoch bigint, p_node text, p_token text, p_verifier text, p_life bigint,
  OUT outcome text, OUT row_epoch bigint, OUT row_node text, OUT row_token text, OUT row_at timestamptz,
  OUT highest bigint)
LANGUAGE plpgsql VOLATILE
AS $duoflow$
DECLARE
  held duoflow.fence%ROWTYPE;
  own  text := format('df_%s_%s_e%s', p_group, p_job, p_epoch);
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'duoflow.take needs READ COMMITTED' USING ERRCODE = 'DF001';
  END IF;
  IF length(own) > 63 OR p_verifier NOT LIKE 'SCRAM-SHA-256$%' THEN
    RAISE EXCEPTION 'duoflow.take: role name too long or no SCRAM verifier' USING ERRCODE = 'DF001';
  END IF;
  SELECT f.* INTO held FROM duoflow.fence f WHERE f.job = p_job FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no fence row for job %', p_job
      USING ERRCODE = 'DF002', HINT = 'run the set-up for this job';
  END IF;
  SELECT coalesce(max(r.epoch), 0) INTO highest FROM duoflow.epoch_roles(p_job, p_group) r;

  IF held.epoch = p_epoch AND held.token = p_token AND held.node = p_node THEN
    -- A lost answer. Writing again makes this commit wait for the standbys the lost one waited for.
    UPDATE duoflow.fence f SET at = clock_timestamp() WHERE f.job = p_job RETURNING f.* INTO held;
    SELECT CASE WHEN bool_or(a.rolcanlogin AND pg_has_role(a.oid, p_group, 'MEMBER')) THEN 'done' ELSE 'released' END
      INTO outcome FROM pg_catalog.pg_roles a WHERE a.rolname = own;
  ELSIF held.life > p_life THEN
    outcome := 'replaced';
  ELSIF held.epoch >= p_epoch THEN
    outcome := 'stale';
  ELSIF highest >= p_epoch THEN
    outcome := 'ahead'; -- the database was restored and is older than its roles
  ELSE
    UPDATE duoflow.fence f
      SET epoch = p_epoch, node = p_node, token = p_token, life = p_life, at = clock_timestamp()
      WHERE f.job = p_job AND f.epoch < p_epoch RETURNING f.* INTO STRICT held;
    PERFORM duoflow.disarm(p_group, r.name) FROM duoflow.epoch_roles(p_job, p_group) r
      WHERE (SELECT a.rolcanlogin FROM pg_catalog.pg_roles a WHERE a.oid = r.id) OR pg_has_role(r.id, p_group, 'MEMBER');
    EXECUTE format('CREATE ROLE %I LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD %L', own, p_verifier);
    IF current_setting('server_version_num')::int >= 160000 THEN
      EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET FALSE', p_group, own);
    ELSE
      EXECUTE format('GRANT %I TO %I', p_group, own);
    END IF;
    INSERT INTO duoflow.event (job, epoch, node, kind) VALUES (p_job, p_epoch, p_node, 'take');
    PERFORM pg_notify('duoflow_fence', p_job || ' ' || p_epoch);
    outcome := 'taken';
    highest := p_epoch;
  END IF;
  row_epoch := held.epoch; row_node := held.node; row_token := held.token; row_at := held.at;
END
$duoflow$;

-- take as daemons of before there were lives call it, while a cluster is upgraded: they are of the first. No default stands for it, since
-- the set-up of an earlier version, run to go back to it, makes this one anew, and two that a call may mean are refused.
CREATE OR REPLACE FUNCTION duoflow.take(
  p_job text, p_group text, p_epoch bigint, p_node text, p_token text, p_verifier text,
  OUT outcome text, OUT row_epoch bigint, OUT row_node text, OUT row_token text, OUT row_at timestamptz,
  OUT highest bigint)
LANGUAGE sql VOLATILE
AS $duoflow$
  SELECT t.outcome, t.row_epoch, t.row_node, t.row_token, t.row_at, t.highest
  FROM duoflow.take(p_job, p_group, p_epoch, p_node, p_token, p_verifier, 0::bigint) t
$duoflow$;

-- disarm takes the group and the right to log in from one epoch role, and makes sure of it: on
-- Postgres >= 16 a REVOKE of another grantor's grant is only a warning.
CREATE OR REPLACE FUNCTION duoflow.disarm(p_group text, p_role text)
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $duoflow$
BEGIN
  IF pg_has_role(p_role, p_group, 'MEMBER') THEN
    EXECUTE format('REVOKE %I FROM %I', p_group, p_role);
    IF pg_has_role(p_role, p_group, 'MEMBER') THEN
      RAISE EXCEPTION 'role % is still a member of % after REVOKE', p_role, p_group
        USING ERRCODE = 'DF003', HINT = 'another grantor gave it: REVOKE it as that grantor';
    END IF;
  END IF;
  IF (SELECT r.rolcanlogin FROM pg_catalog.pg_roles r WHERE r.rolname = p_role) THEN
    EXECUTE format('ALTER ROLE %I NOLOGIN', p_role);
  END IF;
END
$duoflow$;

-- drain ends the sessions of older epoch roles and tells what is left. Called again and again, each
-- time in a transaction of its own (a transaction sees one picture of the sessions).
--   holds    the row still is (p_epoch, p_token); when not, nothing was done
--   remain   sessions that could still commit. The list of sessions is a picture, and the signals go out after it: a
--            session that it shows as idle may have begun a statement before its signal came. So the first call
--            (p_unlisted is null) counts idle sessions too; to a later one "idle" means idle with the signal.
--   prepared transactions of old roles that somebody may still commit
--   unlisted Postgres <= 15: logins under way that pg_stat_activity does not show yet. One of them
--            may have done SET ROLE (in its options) before the REVOKE. Only those seen by the first
--            call matter: pass them back as p_unlisted. p_force ends them.
CREATE OR REPLACE FUNCTION duoflow.drain(
  p_job text, p_group text, p_epoch bigint, p_token text, p_unlisted int[], p_force boolean,
  OUT holds boolean, OUT remain int[], OUT prepared text[], OUT unlisted int[])
LANGUAGE plpgsql VOLATILE
AS $duoflow$
DECLARE
  can_set_role boolean := current_setting('server_version_num')::int < 160000;
  starting int;
BEGIN
  -- A login holds a lock on its database until after it is listed. Locks first, list second: the
  -- other way round one could slip from the one into the other unseen.
  IF can_set_role THEN
    SELECT array_agg(DISTINCT l.pid) INTO unlisted
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'object' AND l.classid = 'pg_catalog.pg_database'::regclass AND l.pid <> pg_backend_pid()
      AND l.objid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
      AND (p_unlisted IS NULL OR l.pid = ANY (p_unlisted));
  END IF;

  WITH mine AS MATERIALIZED (
    SELECT 1 FROM duoflow.fence f WHERE f.job = p_job AND f.epoch = p_epoch AND f.token = p_token
  ), old AS MATERIALIZED (
    SELECT r.id, r.name FROM duoflow.epoch_roles(p_job, p_group) r WHERE r.epoch < p_epoch
  ), ended AS MATERIALIZED (
    SELECT a.pid, a.state, pg_terminate_backend(a.pid) AS signalled
    FROM pg_catalog.pg_stat_activity a
    WHERE EXISTS (SELECT 1 FROM mine) AND a.usesysid IN (SELECT old.id FROM old)
  )
  SELECT EXISTS (SELECT 1 FROM mine),
    (SELECT array_agg(e.pid ORDER BY e.pid) FROM ended e
     WHERE can_set_role OR p_unlisted IS NULL OR e.state IS DISTINCT FROM 'idle'),
    (SELECT array_agg(x.gid ORDER BY x.gid) FROM pg_catalog.pg_prepared_xacts x
     WHERE x.database = current_database() AND x.owner IN (SELECT old.name FROM old))
  INTO holds, remain, prepared;

  SELECT array_agg(u.pid ORDER BY u.pid) INTO unlisted FROM unnest(unlisted) u(pid)
  WHERE u.pid NOT IN (SELECT a.pid FROM pg_catalog.pg_stat_activity a);
  IF holds AND p_force THEN
    FOREACH starting IN ARRAY coalesce(unlisted, '{}') LOOP
      BEGIN
        PERFORM pg_terminate_backend(starting);
      EXCEPTION WHEN insufficient_privilege THEN
        NULL; -- a superuser's login: it ends by itself, and is no epoch role
      END;
    END LOOP;
  END IF;
END
$duoflow$;

-- release disarms the role of the row's own epoch. The row keeps its epoch: it is used up.
-- Returns whether the row still was (p_epoch, p_token).
CREATE OR REPLACE FUNCTION duoflow.release(p_job text, p_group text, p_epoch bigint, p_token text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $duoflow$
DECLARE
  holder text;
BEGIN
  SELECT f.node INTO holder FROM duoflow.fence f
  WHERE f.job = p_job AND f.epoch = p_epoch AND f.token = p_token FOR UPDATE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM duoflow.disarm(p_group, r.name) FROM duoflow.epoch_roles(p_job, p_group) r;
  INSERT INTO duoflow.event (job, epoch, node, kind) VALUES (p_job, p_epoch, holder, 'release');
  PERFORM pg_notify('duoflow_fence', p_job || ' ' || p_epoch);
  RETURN true;
END
$duoflow$;

-- collect drops at most p_most roles more than p_keep epochs below the row. A role with a session
-- stays, because drain finds sessions by their role; so does one that owns something.
CREATE OR REPLACE FUNCTION duoflow.collect(
  p_job text, p_group text, p_keep bigint, p_most int, OUT dropped int, OUT kept int)
LANGUAGE plpgsql VOLATILE
AS $duoflow$
DECLARE
  held   bigint;
  victim name;
BEGIN
  dropped := 0; kept := 0;
  SELECT f.epoch INTO held FROM duoflow.fence f WHERE f.job = p_job FOR UPDATE;
  FOR victim IN
    SELECT r.name FROM duoflow.epoch_roles(p_job, p_group) r
    WHERE r.epoch < held - p_keep
      AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.id)
      AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_prepared_xacts x WHERE x.owner = r.name)
    ORDER BY r.epoch
  LOOP
    EXIT WHEN dropped >= p_most;
    PERFORM duoflow.disarm(p_group, victim);
    BEGIN
      EXECUTE format('DROP ROLE %I', victim);
      dropped := dropped + 1;
    EXCEPTION WHEN dependent_objects_still_exist THEN
      kept := kept + 1; -- it owns something
    END;
  END LOOP;
  DELETE FROM duoflow.event e WHERE e.job = p_job
    AND e.id < (SELECT max(l.id) - 1000 FROM duoflow.event l WHERE l.job = p_job);
END
$duoflow$;

-- unblock ends the sessions that hold a lock which session p_pid waits for. A fencer (p_fencer is
-- their application_name) that only waits itself is spared, and whoever it waits for ended instead.
CREATE OR REPLACE FUNCTION duoflow.unblock(p_pid int, p_fencer text)
RETURNS TABLE (pid int, who text, fault text)
LANGUAGE plpgsql VOLATILE
AS $duoflow$
BEGIN
  FOR pid, who IN
    WITH RECURSIVE b(pid) AS (
      SELECT unnest(pg_blocking_pids(p_pid))
    UNION
      SELECT unnest(pg_blocking_pids(b.pid)) FROM b JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
      WHERE a.application_name = p_fencer
    )
    SELECT b.pid, coalesce(a.usename, 'a prepared transaction')
    FROM b LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
    WHERE b.pid <> p_pid
      AND NOT (coalesce(a.application_name, '') = p_fencer AND cardinality(pg_blocking_pids(b.pid)) > 0)
  LOOP
    fault := '';
    BEGIN
      IF pid = 0 OR NOT pg_terminate_backend(pid) THEN
        fault := 'cannot be ended';
      END IF;
    EXCEPTION WHEN insufficient_privilege THEN
      fault := SQLERRM;
    END;
    RETURN NEXT;
  END LOOP;
END
$duoflow$;
