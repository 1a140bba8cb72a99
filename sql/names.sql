-- Names of any script, whatever the database's locale and encoding.
CREATE TABLE regress_names (what text, name text);
INSERT INTO regress_names VALUES
	('ASCII', 'ci-deploy_2'),
	('German', 'Schlüssel'),
	('Greek', 'κλειδί'),
	('Cyrillic', 'ключ-1'),
	('Arabic', 'مفتاح'),
	('Hebrew with points', E'מַפְתֵּחַ'),
	('Hindi with marks', 'हिन्दी'),
	('Thai', 'กุญแจ'),
	('Tamil', 'திறவுகோல்'),
	('Chinese', '密钥'),
	('Japanese', 'キー鍵'),
	('Korean', '열쇠'),
	('beyond the BMP', U&'\+020000\+020001'),
	('Devanagari digits', 'v१२'),
	('decomposed', U&'cle\0301'),
	('two characters', 'ab'),
	('64 characters', repeat('a', 64)),
	('64 of four bytes', repeat(U&'\+020000', 64)),
	('only digits', '42'),
	('only signs', '-_'),
	('one character', 'a'),
	('65 characters', repeat('a', 65)),
	('empty', ''),
	('space', 'a b'),
	('space at the end', 'ab '),
	('newline', E'a\nb'),
	('tab', E'a\tb'),
	('no-break space', U&'a\00A0b'),
	('ideographic space', U&'a\3000b'),
	('zero-width space', U&'a\200Bb'),
	('zero-width joiner', U&'a\200Db'),
	('soft hyphen', U&'a\00ADb'),
	('right-to-left override', U&'a\202Eb'),
	('byte order mark', U&'\FEFFab'),
	('Hangul filler', U&'a\3164b'),
	('variation selector', U&'a\FE0Fb'),
	('tag character', U&'a\+0E0041b'),
	('C1 control', U&'a\0085b'),
	('delete', E'a\x7Fb'),
	('mark first', U&'\0301ab'),
	('mark after a digit', U&'1\0301a'),
	('mark after a sign', U&'-\0301a'),
	('punctuation', 'a.b'),
	('slash', 'a/b'),
	('quote', 'a''b'),
	('semicolon', 'a;b'),
	('full-width solidus', U&'a\FF0Fb'),
	('en dash', U&'a\2013b'),
	('emoji', U&'a\+01F511'),
	('Roman numeral', U&'a\2167'),
	('superscript', U&'a\00B2'),
	('private use', U&'a\E000'),
	('unassigned', U&'a\0378'),
	('noncharacter', U&'a\FFFF');
CREATE FUNCTION regress_try(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	made uuid;
	stored text;
BEGIN
	made := apikey_id(apikey_create(name));
	stored := (SELECT k.name FROM apikeys k WHERE id = made);
	PERFORM apikey_delete(made, stored);
	RETURN CASE WHEN stored = name THEN 'as given' WHEN stored = normalize(name, NFC) THEN 'in NFC' END;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN 'refused';
END $$;
SELECT regress_try(name) AS result, what FROM regress_names ORDER BY 1, what COLLATE "C";
-- Names that are the same in NFC are the same.
SELECT code FROM apikey_verify(apikey_create(U&'cl\00E9'));
SELECT apikey_create(U&'cle\0301');
SELECT octet_length(name) FROM apikeys;
-- They differ by case and by script.
SELECT code FROM apikey_verify(apikey_create('admin'));
SELECT code FROM apikey_verify(apikey_create('Admin'));
SELECT code FROM apikey_verify(apikey_create(U&'\0430dmin'));
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;

-- The locale decides nothing.
CREATE DATABASE regress_apikey_utf8 TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8';
\c regress_apikey_utf8
CREATE EXTENSION apikey CASCADE;
SELECT code FROM apikey_verify(apikey_create('हिन्दी'));
SELECT code FROM apikey_verify(apikey_create('ключ'));
SELECT apikey_create(U&'a\3164b');
SELECT apikey_create(U&'a\00A0b');
-- In LATIN1 its letters are letters.
\c contrib_regression
DROP DATABASE regress_apikey_utf8;
CREATE DATABASE regress_apikey_latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_apikey_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION apikey CASCADE;
SELECT code FROM apikey_verify(apikey_create('Schlüssel', scopes => '{lesen:größe}'), scopes => '{lesen:größe}');
SELECT name, octet_length(name) FROM apikeys;
SELECT apikey_create('a§b');
SELECT apikey_create('a' || chr(160) || 'b');
SELECT apikey_create('a' || chr(133) || 'b');
SELECT apikey_create('reason') AS k \gset
SELECT apikey_revoke(apikey_id(:'k'), 'a' || chr(133) || 'b');
SELECT apikey_revoke(apikey_id(:'k'), 'für immer');
-- EUC_JP too.
\c contrib_regression
DROP DATABASE regress_apikey_latin1;
CREATE DATABASE regress_apikey_eucjp TEMPLATE template0 ENCODING 'EUC_JP' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_apikey_eucjp
SET client_encoding = 'UTF8';
CREATE EXTENSION apikey CASCADE;
SELECT code FROM apikey_verify(apikey_create('キー鍵'));
SELECT apikey_create('鍵　鍵');
SELECT apikey_create('鍵。');
-- In SQL_ASCII only ASCII means anything.
\c contrib_regression
DROP DATABASE regress_apikey_eucjp;
CREATE DATABASE regress_apikey_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_apikey_ascii
CREATE EXTENSION apikey CASCADE;
SELECT code FROM apikey_verify(apikey_create('ci-deploy_2'));
SELECT apikey_create('Schlüssel');
SELECT apikey_create(E'a\xff\xfe');
SELECT apikey_create('ab', scopes => ARRAY[E'a\xff']);
SELECT apikey_revoke(id, 'für immer') FROM apikeys;
SELECT code FROM apikey_verify(E'\xff\xfe');
\c contrib_regression
DROP DATABASE regress_apikey_ascii;
DROP FUNCTION regress_try;
DROP TABLE regress_names;
