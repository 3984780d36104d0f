-- The warehouse of pipeline {{pipeline_text}}. Running it again is harmless. Rights needed: CREATE on this database, and to
-- grant on what is made. Names that exist are left as they are, with what they hold.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(7303014823102);

-- 1. The ledger: how far each chunk has come, step by step.
CREATE SCHEMA IF NOT EXISTS duoflow;
CREATE TABLE IF NOT EXISTS duoflow.etl_chunk (
  pipeline    text NOT NULL,
  chunk       text NOT NULL,
  step        text NOT NULL,
  state       text NOT NULL CHECK (state IN ('started', 'done', 'failed')),
  epoch       bigint NOT NULL, -- 0: by hand
  node        text NOT NULL,
  source_hash text NOT NULL DEFAULT '',
  sources     jsonb NOT NULL DEFAULT '[]',
  upload_id   text NOT NULL DEFAULT '',
  manifests   jsonb NOT NULL DEFAULT '[]',
  rows        bigint NOT NULL DEFAULT 0,
  strikes     bigint NOT NULL DEFAULT 0,
  quarantined bigint NOT NULL DEFAULT 0,
  hash        text NOT NULL DEFAULT '', -- sha256 of what the step made
  synthetic   boolean NOT NULL DEFAULT false,
  took_ms     bigint NOT NULL DEFAULT 0,
  error       text NOT NULL DEFAULT '',
  updated     timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (pipeline, chunk, step)
);
COMMENT ON TABLE duoflow.etl_chunk IS 'The pipeline''s ledger: one row for each step of each chunk; every write checks the job''s epoch.';

-- 2. The data. What a reader is meant to see are the views below. The order of columns leaves no gaps in a row.
CREATE SCHEMA IF NOT EXISTS {{store}};
CREATE TABLE IF NOT EXISTS {{store}}.day (
  strikes   bigint NOT NULL CHECK (strikes > 0),
  day       date PRIMARY KEY,
  tiles     integer NOT NULL CHECK (tiles > 0),
  synthetic boolean NOT NULL
);
CREATE TABLE IF NOT EXISTS {{store}}.month (
  strikes   bigint NOT NULL CHECK (strikes > 0),
  tiles     integer NOT NULL CHECK (tiles > 0),
  year      smallint NOT NULL,
  month     smallint NOT NULL CHECK (month BETWEEN 1 AND 12),
  days      smallint NOT NULL CHECK (days BETWEEN 1 AND 31),
  synthetic boolean NOT NULL,
  PRIMARY KEY (year, month)
);
CREATE TABLE IF NOT EXISTS {{store}}.cell_month (
  year    smallint NOT NULL,
  month   smallint NOT NULL,
  lat10   smallint NOT NULL,
  lon10   smallint NOT NULL,
  strikes integer NOT NULL CHECK (strikes > 0),
  tiles   integer NOT NULL CHECK (tiles > 0),
  PRIMARY KEY (year, month, lat10, lon10) -- a month's map is one piece of it; a cell's history is a probe for each month
);
-- What the tables hold. An empty source_hash: another chunk has replaced a part.
CREATE TABLE IF NOT EXISTS {{store}}.chunk (
  chunk       text PRIMARY KEY,
  first_day   date NOT NULL,
  last_day    date NOT NULL,
  source_hash text NOT NULL,
  hash        text NOT NULL, -- sha256 of the canonical result
  cell10      smallint NOT NULL, -- edge of a cell in tenths of a degree, the same in all rows
  rows        bigint NOT NULL,
  strikes     bigint NOT NULL,
  synthetic   boolean NOT NULL,
  epoch       bigint NOT NULL,
  node        text NOT NULL,
  loaded      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE {{store}}.day IS 'Lightning strikes and tile-days by day (UTC). A day without a row is unknown, not zero.';
COMMENT ON TABLE {{store}}.month IS 'Lightning strikes and tile-days by month; days counts those with data.';
COMMENT ON TABLE {{store}}.cell_month IS 'Lightning strikes by month and cell; lat10 and lon10 are the lower edges in tenths of a degree.';
COMMENT ON TABLE {{store}}.chunk IS 'What the tables of this schema hold, chunk by chunk.';

-- 3. The views.
CREATE SCHEMA IF NOT EXISTS {{schema}};
CREATE OR REPLACE VIEW {{schema}}.lightning AS
  SELECT day AS "Year-Month", strikes AS number_of_strikes, extract(year FROM day)::integer AS year, extract(month FROM day)::integer AS month
  FROM {{store}}.day;
CREATE OR REPLACE VIEW {{schema}}.lightning_daily AS
  SELECT day, extract(year FROM day)::integer AS year, extract(month FROM day)::integer AS month, strikes, tiles, synthetic FROM {{store}}.day;
CREATE OR REPLACE VIEW {{schema}}.lightning_monthly AS
  SELECT year::integer, month::integer, strikes, tiles, days::integer,
    extract(day FROM make_date(year, month, 1) + interval '1 month' - interval '1 day')::integer AS days_in_month, synthetic
  FROM {{store}}.month;
-- lat and lon are the middle of the cell: it holds the tiles whose centres lie in [edge, edge + cell10). The key's columns
-- stay as they are: a cast would hide them from the index.
CREATE OR REPLACE VIEW {{schema}}.lightning_cell_month AS
  SELECT year, month, lat10, lon10, c.cell10,
    (2 * lat10 + c.cell10 - 1) / 20.0::float8 AS lat, (2 * lon10 + c.cell10 - 1) / 20.0::float8 AS lon, strikes, tiles
  FROM {{store}}.cell_month, (SELECT max(k.cell10)::integer AS cell10 FROM {{store}}.chunk k) c;
CREATE OR REPLACE VIEW {{schema}}.lightning_coverage AS
  WITH covered AS (
    SELECT extract(year FROM k.first_day + i)::integer AS year, extract(month FROM k.first_day + i)::integer AS month, bool_or(k.synthetic) AS synthetic
    FROM {{store}}.chunk k, generate_series(0, k.last_day - k.first_day, 28) i GROUP BY 1, 2
    UNION -- the last month of a chunk, which steps of 28 days may not reach
    SELECT extract(year FROM k.last_day)::integer, extract(month FROM k.last_day)::integer, bool_or(k.synthetic) FROM {{store}}.chunk k GROUP BY 1, 2
  ), loaded AS (
    SELECT year, month, bool_or(synthetic) AS synthetic FROM covered GROUP BY 1, 2
  ), ends AS (
    SELECT (SELECT min(k.first_day) FROM {{store}}.chunk k) AS first, (SELECT max(d.day) FROM {{store}}.day d) AS last
  ), years AS (
    SELECT extract(year FROM d.day)::integer AS year, min(d.day) AS first, max(d.day) AS last, count(DISTINCT extract(month FROM d.day)) AS months
    FROM {{store}}.day d GROUP BY 1
  ), days AS (
    SELECT e.first + i AS day, extract(year FROM e.first + i)::integer AS year, extract(month FROM e.first + i)::integer AS month
    FROM ends e, generate_series(0, e.last - e.first) i
  ), joined AS (
    SELECT s.day, s.year, s.month, d.strikes, d.day IS NOT NULL AS present, l.year IS NOT NULL AS loaded, coalesce(d.synthetic, l.synthetic) AS synthetic,
      count(d.day) OVER (PARTITION BY s.year, s.month) AS in_month,
      extract(day FROM make_date(s.year, s.month, 1) + interval '1 month' - interval '1 day') AS days_in_month
    FROM days s LEFT JOIN {{store}}.day d ON d.day = s.day LEFT JOIN loaded l ON l.year = s.year AND l.month = s.month
  )
  SELECT j.day, j.year, j.month,
    CASE WHEN j.present THEN 'present' WHEN j.loaded THEN 'missing' ELSE 'not loaded' END AS state,
    CASE WHEN j.in_month = j.days_in_month THEN 'whole' WHEN j.in_month > 0 THEN 'partial' WHEN j.loaded THEN 'missing' ELSE 'not loaded' END AS month_state,
    CASE WHEN y.year IS NULL THEN 'not loaded'
      WHEN y.first = make_date(j.year, 1, 1) AND y.last = make_date(j.year, 12, 31) AND y.months = 12 THEN 'whole' ELSE 'partial' END AS year_state,
    j.strikes, j.synthetic,
    CASE WHEN j.day < DATE '2013-01-01' THEN 1 WHEN j.day < DATE '2015-01-01' THEN 2 WHEN j.day < DATE '2018-11-07' THEN 3 ELSE 4 END AS era,
    CASE WHEN j.day < DATE '2013-01-01' THEN 'before the sensors of 2013' WHEN j.day < DATE '2015-01-01' THEN 'sensors of 2013'
      WHEN j.day < DATE '2018-11-07' THEN 'processor of 2015' ELSE 'classification of 2018-11-07' END AS era_name
  FROM joined j LEFT JOIN years y ON y.year = j.year;
CREATE OR REPLACE VIEW {{schema}}.lightning_loads AS
  SELECT chunk, first_day, last_day, rows, strikes, synthetic, loaded FROM {{store}}.chunk;
COMMENT ON VIEW {{schema}}.lightning IS 'Lightning strikes by day; "Year-Month" is the day, as the original program named it.';
COMMENT ON VIEW {{schema}}.lightning_daily IS 'Lightning strikes by day (UTC). A day without a row is unknown, not zero: see lightning_coverage.';
COMMENT ON VIEW {{schema}}.lightning_monthly IS 'Lightning strikes by month. Where days is less than days_in_month, some days are unknown.';
COMMENT ON VIEW {{schema}}.lightning_cell_month IS 'Lightning strikes by month and cell; lat and lon are the middle of the cell in degrees.';
COMMENT ON VIEW {{schema}}.lightning_coverage IS 'Which days, months and years are known. Strikes of a missing day are null, never zero. Eras: what the network measured with.';
COMMENT ON VIEW {{schema}}.lightning_loads IS 'Which chunks are loaded, and when each was.';

-- 4. Whether the data are synthetic stands in the comments. COMMENT wants the owner, and the job owns nothing.
CREATE OR REPLACE FUNCTION {{store}}.label() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $label$
DECLARE
  source text;
  made text;
  measured boolean;
  rel record;
BEGIN
  SELECT string_agg(y.year::text, ', ' ORDER BY y.year) FILTER (WHERE y.synthetic), bool_or(y.measured) INTO made, measured
  FROM (SELECT extract(year FROM d.day)::integer AS year, bool_or(d.synthetic) AS synthetic, bool_or(NOT d.synthetic) AS measured FROM {{store}}.day d GROUP BY 1) y;
  source := CASE WHEN made IS NULL AND measured IS NULL THEN 'no data are loaded.'
    WHEN made IS NULL THEN 'NOAA NCEI, lightning tiles of the National Lightning Detection Network.'
    WHEN measured THEN 'partly synthetic, made by duoflow and not observed: ' || made || '.'
    ELSE 'synthetic, made by duoflow and not observed.' END;
  FOR rel IN
    SELECT n.nspname, c.relname, c.relkind, coalesce(obj_description(c.oid, 'pg_class'), '') AS text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname = {{store_text}} AND c.relname IN ('day', 'month', 'cell_month', 'chunk') AND c.relkind = 'r')
      OR (n.nspname = {{schema_text}} AND c.relname IN ('lightning', 'lightning_daily', 'lightning_monthly', 'lightning_cell_month', 'lightning_coverage', 'lightning_loads') AND c.relkind = 'v')
  LOOP
    IF rel.text <> split_part(rel.text, ' Source: ', 1) || ' Source: ' || source THEN
      EXECUTE format('COMMENT ON %s %I.%I IS %L', CASE rel.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, rel.nspname, rel.relname,
        split_part(rel.text, ' Source: ', 1) || ' Source: ' || source);
    END IF;
  END LOOP;
  RETURN source;
END
$label$;
REVOKE ALL ON FUNCTION {{store}}.label() FROM PUBLIC;
SELECT {{store}}.label();
{{grants}}COMMIT;
