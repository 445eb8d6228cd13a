-- 18,000 patients and 300,000 bills; all made up by arithmetic, so that every lab has the same ones.
create table patients as
  select n as id, 'Patient ' || n as name, date '1930-01-01' + (n * 7919) % 33000 as born, 'Ward ' || n % 24 as ward
  from generate_series(1, 18000) n;
create table bills as
  select n as id, 1 + (n * 31) % 18000 as patient, ((n::bigint * 7907) % 900000) / 100.0 as rupees, date '2020-01-01' + n % 1800 as issued, n % 11 = 0 as open
  from generate_series(1, 300000) n;
alter table patients add primary key (id);
alter table bills add primary key (id);
grant select on patients, bills to clinic_ro;
grant select, insert, update on bills to billing_rw;
grant select on patients to billing_rw;
