-- Records of CloudPose, version 1. Times are when the gateway received the frame.

-- Which keypoint stands where in the arrays of `persons`.
CREATE TABLE skeletons (
    name text PRIMARY KEY,
    joints text[] NOT NULL
);

-- A row for each frame that was worked on.
CREATE TABLE frames (
    tenant text NOT NULL,
    stream text NOT NULL,
    captured_at timestamptz NOT NULL,
    -- Which of the stream's sessions sent it; empty where the event does not say.
    session text NOT NULL,
    seq bigint NOT NULL,
    width bigint NOT NULL,
    height bigint NOT NULL,
    model text NOT NULL,
    device text NOT NULL,
    -- Whose joints its persons have; null for what finds no persons.
    skeleton text,
    persons integer,
    -- What the whole picture shows, by falling score, where that was asked; null otherwise.
    classes text[],
    class_scores real[],
    PRIMARY KEY (tenant, stream, captured_at, session, seq)
) PARTITION BY RANGE (captured_at);

-- A row for each person in a frame. Pixels of the original image, origin top left.
CREATE TABLE persons (
    tenant text NOT NULL,
    stream text NOT NULL,
    captured_at timestamptz NOT NULL,
    session text NOT NULL,
    seq bigint NOT NULL,
    -- By falling score, from 1.
    ordinal integer NOT NULL,
    track_id bigint,
    score real NOT NULL,
    x real NOT NULL,
    y real NOT NULL,
    width real NOT NULL,
    height real NOT NULL,
    coarse boolean NOT NULL,
    joint_x real[] NOT NULL,
    joint_y real[] NOT NULL,
    joint_score real[] NOT NULL
) PARTITION BY RANGE (captured_at);

CREATE INDEX persons_by_time ON persons (tenant, stream, captured_at) INCLUDE (track_id);

-- A row for each minute in which a person was seen, so that a day is looked up as fast as a minute.
CREATE TABLE presence (
    tenant text NOT NULL,
    stream text NOT NULL,
    captured_at timestamptz NOT NULL,
    session text NOT NULL,
    track_id bigint NOT NULL,
    frames bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, stream, captured_at, session, track_id)
) PARTITION BY RANGE (captured_at);
COMMENT ON COLUMN presence.captured_at IS 'The beginning of the minute.';

-- Makes the tables of the day (UTC) in which `at` lies, if they are missing.
CREATE FUNCTION make_day(at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    day date := (at AT TIME ZONE 'UTC')::date;
    kind text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['frames', 'persons', 'presence'] LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
            kind || '_' || to_char(day, 'YYYYMMDD'), kind,
            day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
        );
    END LOOP;
END $$;

-- Drops the tables of days that ended before `at`, and says how many days that were.
CREATE FUNCTION drop_days(at timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    part regclass;
    dropped bigint := 0;
BEGIN
    FOR part IN
        SELECT i.inhrelid::regclass FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('frames'::regclass, 'persons'::regclass, 'presence'::regclass)
          AND to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= (at AT TIME ZONE 'UTC')
    LOOP
        EXECUTE format('DROP TABLE %s', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped / 3;
END $$;
