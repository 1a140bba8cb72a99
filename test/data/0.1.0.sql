-- The rows of a database with extension apikey 0.1.0, as its pg_dump wrote them, and the
-- roles they belong to.  For tests; :schema is the extension's.  A role of the
-- time, regress_apikey_gone, had been dropped before.  The keys:
--
-- personal   ak_0354CYiv93EXjzvnZRIY7Qz2oM9xUvMmaXIA3CgQax4kuc4en6IGUjs2oY3zA
-- limited    ak_0354CYiv9FVJDbxikyntpeJvp9PvvtviXbCsFQvi3c2w0jtKHTGGzA33GexO2
-- credits    ak_0354CYivExTke8laTRrVBQTZdJfKkCu2SmwJbSWHU1QXJelRFpHHEnP4R7u5P
-- project    ak_0354CYivF6ic2j1nxGLtDopvOALD76ikKMOWIRZacyZNW7HPBM7Qb8j0fnCyb
-- revoked    ak_0354CYivFFtZKqqLkK3qT81joRDYKRVCqmU6N22TRWEyQ1x0o753Puo246khO
-- disabled   ak_0354CYivjDKjdpezdV9Nrz3VxpoZBDHH3ziIMXGhbpW1qMzjuB1ci1f15VHWm
-- rotated    ak_0354CYivjQ0eLtNpQDdG7xHkhDCiP7H2kFxTDfqi6gkglKrHxhYN8313czte7
-- successor  ak_0354CYivpDvUNyf7XN1ExpuoLEYX0OjL7w2C4YjMye6QAy4KulEp0XG4B1jrA
-- bob        ak_0354CYiwJZe9go0CQ4Dtvysp7JXVLG0Vc7xGwGNAkQeV95yUIuq8XaH0pXtaq
-- gone       ak_0354CYiwJgiO76pdZ1VMRg3WKx7kdPFz9YKCLgbVK3IZMAWPZEm799u4dWTfG
-- imported   legacy-key-0123456789
-- bcrypt     legacy-bcrypt-0123456789
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_bob;
COPY :schema.apikey_credit (id, balance, refill, refill_interval, refill_at, granted_at) FROM stdin;
01a2171b-627d-7002-9200-96035735f528	900	1000	1 mon	2099-12-26 09:06:40.381008+00	2026-11-26 09:06:40.381008+00
\.
COPY :schema.apikey_digest (id, digest, pepper) FROM stdin;
01a2171b-627d-7c97-883c-4990fc91db86	\\x9c5ef6312f2c1c053be65ea7160b1c9e4304f73ce41474cd4848eb346ce50170	0
01a2171b-6288-75b1-854c-04ce35dec87e	\\xc0873f083c78d94778c5c8f2907f045c35a70665ce6adfd02a4d7f6bdd6fc8a0	0
01a2171b-627c-7e2d-af1d-c2bc19c65a56	\\x18b350a02420a5d8699f9139e2e4dfa8d7cd5d55d9c2f797071552b11633c3c0	0
01a2171b-6283-701f-a271-89647fff983d	\\x48b74067bf257c2b48fde1548f26ae2a8ab7259134f166631b04a3d1ded1e024	0
01a2171b-627c-75cb-a254-b1260b460dd4	\\x0af257142df94754d939eb898e57644935632fff182fcae0ab5b21a679033ec5	0
01a2171b-627d-7002-9200-96035735f528	\\xccefa344f529ef4192b1c841ef7abad4f13ef43954a5d352ef14fd9425eda7cf	0
01a2171b-6282-7a3b-88e5-333ee2f491c5	\\x76a4d4c732c0047c55783b4927b60d94e83301a787143e1652fa10ddd2335d94	0
01a2171b-627d-7652-8f16-6170ddc29dec	\\x1bd97c7cb183e92d4957520da036d9933dce5971754244be1d6cd067ec7781c1	0
01a2171b-6282-7192-8ac2-34e8a409e677	\\x7992bf1d0de63374d6bcd1486adc56566e51a7857526ca8c9958925bd5a5f38d	0
\.
COPY :schema.apikey_event (id, at, event, key_id, key_name, key_owner, key_subject, place, organization, project, actor, actor_oid, actor_subject, client_addr, detail) FROM stdin;
1	2026-11-26 09:06:40.378566+00	organization_created	\N	\N	\N	\N	acme	01a2171b-627a-7463-b786-c03b1ae1d360	\N	regress_apikey_anna	16613	\N	\N	\N
2	2026-11-26 09:06:40.379032+00	member_added	\N	\N	\N	\N	acme	01a2171b-627a-7463-b786-c03b1ae1d360	\N	regress_apikey_anna	16613	\N	\N	{"role": "owner", "member": "regress_apikey_anna"}
3	2026-11-26 09:06:40.379554+00	project_created	\N	\N	\N	\N	acme/payments	01a2171b-627a-7463-b786-c03b1ae1d360	01a2171b-627b-7518-b14e-0859adf284ae	regress_apikey_anna	16613	\N	\N	\N
4	2026-11-26 09:06:40.379755+00	member_added	\N	\N	\N	\N	acme/payments	01a2171b-627a-7463-b786-c03b1ae1d360	01a2171b-627b-7518-b14e-0859adf284ae	regress_apikey_anna	16613	\N	\N	{"role": "admin", "member": "regress_apikey_bob"}
5	2026-11-26 09:06:40.380228+00	project_updated	\N	\N	\N	\N	acme/payments	01a2171b-627a-7463-b786-c03b1ae1d360	01a2171b-627b-7518-b14e-0859adf284ae	regress_apikey_anna	16613	\N	\N	{"columns": ["members_can_view"]}
6	2026-11-26 09:06:40.380782+00	created	01a2171b-627c-75cb-a254-b1260b460dd4	personal	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	\N
7	2026-11-26 09:06:40.380917+00	created	01a2171b-627c-7e2d-af1d-c2bc19c65a56	limited	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	\N
8	2026-11-26 09:06:40.381186+00	created	01a2171b-627d-7002-9200-96035735f528	credits	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	\N
9	2026-11-26 09:06:40.381683+00	created	01a2171b-627d-7652-8f16-6170ddc29dec	project	16613	\N	acme/payments	01a2171b-627a-7463-b786-c03b1ae1d360	01a2171b-627b-7518-b14e-0859adf284ae	regress_apikey_anna	16613	\N	\N	\N
10	2026-11-26 09:06:40.381815+00	created	01a2171b-627d-7c97-883c-4990fc91db86	revoked	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	\N
11	2026-11-26 09:06:40.385971+00	revoked	01a2171b-627d-7c97-883c-4990fc91db86	revoked	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	{"reason": "laptop lost"}
12	2026-11-26 09:06:40.386133+00	created	01a2171b-6282-7192-8ac2-34e8a409e677	disabled	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	\N
13	2026-11-26 09:06:40.386534+00	disabled	01a2171b-6282-7192-8ac2-34e8a409e677	disabled	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	\N
14	2026-11-26 09:06:40.386671+00	created	01a2171b-6282-7a3b-88e5-333ee2f491c5	rotated	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	\N
15	2026-11-26 09:06:40.38712+00	rotated	01a2171b-6282-7a3b-88e5-333ee2f491c5	rotated	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	{"stops_at": "2126-11-26T09:06:40.387007+00:00", "rotated_to": "01a2171b-6283-701f-a271-89647fff983d"}
16	2026-11-26 09:06:40.387147+00	created	01a2171b-6283-701f-a271-89647fff983d	rotated	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	{"rotated_from": "01a2171b-6282-7a3b-88e5-333ee2f491c5"}
17	2026-11-26 09:06:40.387685+00	imported	01a2171b-6283-7a86-9efc-164d27542939	imported	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	{"algorithm": "sha256"}
18	2026-11-26 09:06:40.38923+00	imported	01a2171b-6285-7338-b2ca-fe568297cf93	bcrypt	16613	\N	\N	\N	\N	regress_apikey_anna	16613	\N	\N	{"algorithm": "crypt"}
19	2026-11-26 09:06:40.392485+00	created	01a2171b-6288-75b1-854c-04ce35dec87e	bobs	16614	\N	acme/payments	01a2171b-627a-7463-b786-c03b1ae1d360	01a2171b-627b-7518-b14e-0859adf284ae	regress_apikey_bob	16614	\N	\N	\N
20	2026-11-26 09:06:40.392687+00	created	01a2171b-6288-7a85-bc08-877b685ca504	gone	16615	\N	\N	\N	\N	regress_apikey_gone	16615	\N	\N	\N
21	2026-11-26 09:06:40.392984+00	revoked	01a2171b-6288-7a85-bc08-877b685ca504	gone	16615	\N	\N	\N	\N	postgres	10	\N	\N	{"reason": "owner dropped"}
22	2026-11-26 09:06:40.986954+00	denied	01a2171b-627d-7c97-883c-4990fc91db86	revoked	16613	\N	\N	\N	\N	postgres	10	\N	\N	{"code": "revoked", "count": 1}
23	2026-11-26 09:06:40.987093+00	denied	01a2171b-6282-7192-8ac2-34e8a409e677	disabled	16613	\N	\N	\N	\N	postgres	10	\N	\N	{"code": "disabled", "count": 1}
24	2026-11-26 09:06:40.987102+00	denied	01a2171b-6288-7a85-bc08-877b685ca504	gone	16615	\N	\N	\N	\N	postgres	10	\N	\N	{"code": "revoked", "count": 1}
25	2026-11-26 09:06:40.987729+00	rehashed	01a2171b-6283-7a86-9efc-164d27542939	imported	16613	\N	\N	\N	\N	postgres	10	\N	\N	\N
26	2026-11-26 09:06:40.987876+00	rehashed	01a2171b-6285-7338-b2ca-fe568297cf93	bcrypt	16613	\N	\N	\N	\N	postgres	10	\N	\N	\N
\.
COPY :schema.apikey_import (id, algorithm, foreign_digest, foreign_pepper, digest, pepper, lookup, salt, last_four) FROM stdin;
01a2171b-6283-7a86-9efc-164d27542939	sha256	\\x4a6581e28663ff91415ef0ae4bd52ac8acda4b45528e8f0abc73844721867f96	0	\\xfe028df7ab81ce21c806057d3dbec15aaa677d7e51408e445cd93777b10faa93	0	\N	\N	6789
01a2171b-6285-7338-b2ca-fe568297cf93	crypt	\\xe211cffde7c2b2e06ba9e0d5b8e77466c6e35113eff7c44aa12897fab1481bec	0	\\xb3b8e75af15eb99e930d927bf6d275a5549e45156cb5265a611e01e95528f478	0	legacy-bcrypt-	$2a$04$pdXXtEljRhFn8oOGGKTaju	6789
\.
COPY :schema.apikey_key (id, project, owner, role, disabled, created_at, starts_at, expires_at, revoked_at, rotated_to, rate_limit, rate_window, credits_account, owner_name, prefix, last_four, name, subject, description, scopes, allowed_ips, metadata, revoke_reason, accepted_terms) FROM stdin;
01a2171b-627c-75cb-a254-b1260b460dd4	\N	regress_apikey_anna	\N	f	2026-11-26 09:06:40.38036+00	\N	2099-01-01 00:00:00+00	\N	\N	\N	00:01:00	\N	regress_apikey_anna	ak	Y3zA	personal	\N	\N	{read:*}	\N	{"plan": "free"}	\N	\N
01a2171b-627c-7e2d-af1d-c2bc19c65a56	\N	regress_apikey_anna	\N	f	2026-11-26 09:06:40.380885+00	\N	\N	\N	\N	5	00:01:00	\N	regress_apikey_anna	ak	exO2	limited	\N	\N	{}	\N	{}	\N	\N
01a2171b-627d-7002-9200-96035735f528	\N	regress_apikey_anna	\N	f	2026-11-26 09:06:40.381+00	\N	\N	\N	\N	\N	00:01:00	01a2171b-627d-7002-9200-96035735f528	regress_apikey_anna	ak	7u5P	credits	\N	\N	{}	\N	{}	\N	\N
01a2171b-627d-7652-8f16-6170ddc29dec	01a2171b-627b-7518-b14e-0859adf284ae	regress_apikey_anna	owner	f	2026-11-26 09:06:40.381394+00	\N	\N	\N	\N	\N	00:01:00	\N	regress_apikey_anna	ak	nCyb	project	\N	made by anna	{}	\N	{}	\N	\N
01a2171b-627d-7c97-883c-4990fc91db86	\N	regress_apikey_anna	\N	f	2026-11-26 09:06:40.381786+00	\N	\N	2026-11-26 09:06:40.385862+00	\N	\N	00:01:00	\N	regress_apikey_anna	ak	6khO	revoked	\N	\N	{}	\N	{}	laptop lost	\N
01a2171b-6282-7192-8ac2-34e8a409e677	\N	regress_apikey_anna	\N	t	2026-11-26 09:06:40.386097+00	\N	\N	\N	\N	\N	00:01:00	\N	regress_apikey_anna	ak	VHWm	disabled	\N	\N	{}	\N	{}	\N	\N
01a2171b-6282-7a3b-88e5-333ee2f491c5	\N	regress_apikey_anna	\N	f	2026-11-26 09:06:40.386638+00	\N	2126-11-26 09:06:40.387007+00	\N	01a2171b-6283-701f-a271-89647fff983d	\N	00:01:00	\N	regress_apikey_anna	ak	zte7	rotated	\N	\N	{}	\N	{}	\N	\N
01a2171b-6283-701f-a271-89647fff983d	\N	regress_apikey_anna	\N	f	2026-11-26 09:06:40.387007+00	\N	\N	\N	\N	\N	00:01:00	\N	regress_apikey_anna	ak	1jrA	rotated	\N	\N	{}	\N	{}	\N	\N
01a2171b-6283-7a86-9efc-164d27542939	\N	regress_apikey_anna	\N	f	2026-11-26 09:06:40.387571+00	\N	\N	\N	\N	\N	00:01:00	\N	regress_apikey_anna	ak		imported	\N	\N	{}	\N	{}	\N	\N
01a2171b-6285-7338-b2ca-fe568297cf93	\N	regress_apikey_anna	\N	f	2026-11-26 09:06:40.389161+00	\N	\N	\N	\N	\N	00:01:00	\N	regress_apikey_anna	ak		bcrypt	\N	\N	{}	\N	{}	\N	\N
01a2171b-6288-75b1-854c-04ce35dec87e	01a2171b-627b-7518-b14e-0859adf284ae	regress_apikey_bob	admin	f	2026-11-26 09:06:40.392355+00	\N	\N	\N	\N	\N	00:01:00	\N	regress_apikey_bob	ak	Xtaq	bobs	\N	\N	{}	\N	{}	\N	\N
\.
COPY :schema.apikey_member (id, organization, project, subject, member, member_name, role, created_at, created_by) FROM stdin;
01a2171b-627a-7e2f-80dd-a61b74d8ecb5	01a2171b-627a-7463-b786-c03b1ae1d360	\N	\N	regress_apikey_anna	regress_apikey_anna	owner	2026-11-26 09:06:40.378907+00	regress_apikey_anna
01a2171b-627b-7bbf-9c60-c9feff745421	01a2171b-627a-7463-b786-c03b1ae1d360	01a2171b-627b-7518-b14e-0859adf284ae	\N	regress_apikey_bob	regress_apikey_bob	admin	2026-11-26 09:06:40.379741+00	regress_apikey_anna
\.
COPY :schema.apikey_organization (id, name, created_at) FROM stdin;
01a2171b-627a-7463-b786-c03b1ae1d360	acme	2026-11-26 09:06:40.378293+00
\.
COPY :schema.apikey_project (id, organization, path, created_at, members_can_view, name_pattern, max_ttl, max_keys, terms, revealable) FROM stdin;
01a2171b-627b-7518-b14e-0859adf284ae	01a2171b-627a-7463-b786-c03b1ae1d360	acme/payments	2026-11-26 09:06:40.379329+00	t	\N	\N	\N	\N	f
\.
COPY :schema.apikey_usage (id, use_count, denied_count, last_used_at, last_used_addr, flush, expiry_told) FROM stdin;
01a2171b-6283-7a86-9efc-164d27542939	1	0	2026-11-26 09:06:40.792596+00	\N	848999200970725	\N
01a2171b-627d-7c97-883c-4990fc91db86	0	1	\N	\N	848999200970725	\N
01a2171b-6288-75b1-854c-04ce35dec87e	1	0	2026-11-26 09:06:40.722397+00	\N	848999200970725	\N
01a2171b-627c-7e2d-af1d-c2bc19c65a56	1	0	2026-11-26 09:06:40.471599+00	\N	848999200970725	\N
01a2171b-6283-701f-a271-89647fff983d	1	0	2026-11-26 09:06:40.685724+00	\N	848999200970725	\N
01a2171b-627c-75cb-a254-b1260b460dd4	1	0	2026-11-26 09:06:40.43807+00	\N	848999200970725	\N
01a2171b-6285-7338-b2ca-fe568297cf93	1	0	2026-11-26 09:06:40.79314+00	\N	848999200970725	\N
01a2171b-627d-7002-9200-96035735f528	1	0	2026-11-26 09:06:40.502276+00	\N	848999200970725	\N
01a2171b-6282-7a3b-88e5-333ee2f491c5	1	0	2026-11-26 09:06:40.654264+00	\N	848999200970725	\N
01a2171b-627d-7652-8f16-6170ddc29dec	1	0	2026-11-26 09:06:40.540254+00	\N	848999200970725	\N
01a2171b-6282-7192-8ac2-34e8a409e677	0	1	\N	\N	848999200970725	\N
\.
SELECT pg_catalog.setval(:'schema' || '.apikey_event_id_seq', 26, true);
