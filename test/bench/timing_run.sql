-- In a new process, which verifies the warm keys and those that it will answer
-- for, and finds every text to be what it is meant to be; see timing, which gives
-- rounds.
SELECT count(*) = 100 AS warm FROM issued WHERE kind = 4 AND i <= 100 AND apikey_check(key) \gset
SELECT count(*) = 0 AS as_meant FROM offered JOIN kind USING (kind), apikey_verify(key) v WHERE i <= 100 AND v.code <> kind.code \gset
\if :warm
\else
\warn the warm keys do not verify
SELECT 1 / 0;
\endif
\if :as_meant
\else
\warn a key is not of the kind that it is meant to be
SELECT 1 / 0;
\endif
CALL measure(:rounds);
