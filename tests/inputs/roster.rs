use offboard::roster::Roster;
use proptest::prelude::*;

const HEADER: &str = "id,name,e-mail,user name,manager,department,worker type,status,reason,end date,zone";

fn read(csv: &str) -> Roster {
    Roster::from_csv(csv.as_bytes(), "roster.csv", None).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn complaint(csv: impl AsRef<[u8]>) -> String {
    match Roster::from_csv(csv.as_ref(), "roster.csv", None) {
        Ok(roster) => panic!("accepted: {:?}", roster.people()),
        Err(mistakes) => mistakes.to_string(),
    }
}

fn with(row: &str) -> String {
    format!("{HEADER}\nE1042,Jane Roe,jane.roe@example.com,jroe,E1001,Billing,employee,active,,,\n{row}\n")
}

macro_rules! snapshots {
    ($($name:ident: $csv:expr),* $(,)?) => {
        $(#[test] fn $name() { insta::assert_snapshot!(complaint($csv)); })*
    };
}

snapshots! {
    empty: "",
    only_a_header: format!("{HEADER}\n"),
    unknown_column: "id,nmae,status\nE1,A,active\n",
    missing_column: "id,name,e-mail\nE1,A,a@example.com\n",
    column_twice: "id,name,status,User Name,user_name\nE1,A,active,a,b\n",
    semicolons: "id;name;status\nE1;A;active\n",
    half_row: with("E1043,Jill"),
    row_with_a_cell_too_many: with("E1043,Jill Roe,jill@example.com,jill,,Billing, Accounts,employee,active,,,"),
    empty_name: with("E1043,,j@example.com,j,,,,active,,,"),
    same_id: with("e1042,Jill Roe,jill@example.com,jill,,,,active,,,"),
    same_mail: with("E1043,Jill Roe,Jane.Roe@Example.com,jill,,,,active,,,"),
    same_user_name_in_wide_letters: with("E1043,Jill Roe,jill@example.com,ｊｒｏｅ,,,,active,,,"),
    not_a_mail: with("E1043,Jill Roe,jill at example.com,jill,,,,active,,,"),
    unknown_status: with("E1043,Jill Roe,,,,,,terminatd,,,"),
    control_character: with("E1043,Jill \u{1b}[2JRoe,,,,,,active,,,"),
    bidi: with("E1043,Jill \u{202e}eoR,,,,,,active,,,"),
    not_a_date: with("E1043,Jill Roe,,,,,,active,,22.11.2026,Asia/Kolkata"),
    not_a_day: with("E1043,Jill Roe,,,,,,active,,2026-02-30,Asia/Kolkata"),
    date_in_1970: with("E1043,Jill Roe,,,,,,active,,1970-01-01,Asia/Kolkata"),
    date_in_9999: with("E1043,Jill Roe,,,,,,active,,9999-12-31,Asia/Kolkata"),
    date_with_an_offset: with("E1043,Jill Roe,,,,,,active,,2026-11-22T18:00Z,Asia/Kolkata"),
    date_without_a_zone: with("E1043,Jill Roe,,,,,,active,,2026-11-22,"),
    unknown_zone: with("E1043,Jill Roe,,,,,,active,,2026-11-22,Asia/Kolkatta"),
    zone_that_is_an_offset: with("E1043,Jill Roe,,,,,,active,,2026-11-22,+05:30"),
    unclosed_quote: with("E1043,\"Jill Roe,,,,,,active,,,"),
    text_after_a_quote: with("E1043,\"Jill\" Roe,,,,,,active,,,"),
    quote_inside: with("E1043,Jill \"JJ\" Roe,,,,,,active,,,"),
    latin_1: b"id,name,status\nE1,M\xfcller,active\n",
    nul: with("E1043,Jill\0Roe,,,,,,active,,,"),
    several_mistakes: with("E1043,,x,a b,,,,gone,,tomorrow,Mars/Base\nE1044,Jo Doe,,,,,,active,,,"),
}

#[test]
fn columns_come_in_any_order_and_spelling() {
    let roster = read(
        "\u{feff}Status,USER_NAME,Worker Type,id,E-Mail,name,end-date,Zone\r\n\
         Active,jroe,contractor,E1,jane@example.com,\"Roe, Jane \"\"JJ\"\"\r\nPhD\",2026-11-22,asia/kolkata\r\n\r\n,,,,,,,\r\n",
    );
    let jane = &roster.people()[0];
    assert_eq!(roster.people().len(), 1);
    assert_eq!((jane.name.as_str(), jane.zone.as_deref()), ("Roe, Jane \"JJ\" PhD", Some("Asia/Kolkata")));
    assert_eq!(jane.user_name.as_deref(), Some("jroe"));
}

#[test]
fn a_day_ends_in_the_persons_own_zone() {
    for (end, zone, moment) in [
        ("2026-11-22", "Asia/Kolkata", "2026-11-22T18:29:59Z"),
        ("2026-11-22T18:00", "Asia/Kolkata", "2026-11-22T12:30:00Z"),
        ("2026-11-22 18:00:30", "Asia/Kolkata", "2026-11-22T12:30:30Z"),
        ("2026-11-22", "Pacific/Kiritimati", "2026-11-22T09:59:59Z"),
        ("2026-11-22", "UTC", "2026-11-22T23:59:59Z"),
        // Clocks go back at 02:00 UTC on this day: it has 25 hours.
        ("2026-10-25", "Europe/Berlin", "2026-10-25T22:59:59Z"),
        // 02:30 happens twice; the earlier one.
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00Z"),
        // 02:30 does not happen; as much later.
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29T01:30:00Z"),
        // At midnight of this day clocks go back to 23:00: 23:59:59 happens twice, and the day ends with the later one.
        ("2026-10-24", "Asia/Beirut", "2026-10-24T21:59:59Z"),
    ] {
        let roster = read(&with(&format!("E1043,Jill Roe,,,,,,active,,{end},{zone}")));
        assert_eq!(roster.people()[1].ends.unwrap().to_string(), moment, "{end} {zone}");
    }
}

#[test]
fn names_that_look_alike_are_told_apart_and_pointed_out() {
    let roster = read(&with("E1043,Jane Roe,jane.roe@example.org,jr\u{43e}e,,,,active,,,"));
    assert_eq!(roster.people().len(), 2);
    insta::assert_snapshot!("look_alikes", roster.warnings()[0].render(false));
    assert_eq!(roster.find("jroe").unwrap().id.0, "E1042");
    assert_eq!(roster.find("jr\u{43e}e").unwrap().id.0, "E1043");
}

#[test]
fn one_person_is_found_by_what_only_they_have() {
    let roster = read(&with(
        "E1043,Jane Roe,jane.roe2@example.com,jroe2,,Imaging,,active,,,\nE1044,John Doe,,jdoe,,,,active,,,\n\
         E1045,Ann Other,,E1044,,,,active,,,",
    ));
    for (query, id) in [
        ("E1042", "E1042"),
        (" e1042 ", "E1042"),
        ("JANE.ROE@example.com", "E1042"),
        ("jroe2", "E1043"),
        ("jdoe", "E1044"),
    ] {
        assert_eq!(roster.find(query).unwrap().id.0, id, "{query}");
    }
    insta::assert_snapshot!("two_people_of_one_name", roster.find("jane roe").unwrap_err());
    insta::assert_snapshot!("a_name_is_not_enough", roster.find("John Doe").unwrap_err());
    insta::assert_snapshot!("a_part_of_a_name", roster.find("other").unwrap_err());
    insta::assert_snapshot!("one_word_for_two_people", roster.find("E1044").unwrap_err());
    insta::assert_snapshot!("nobody", roster.find("zoe@example.com").unwrap_err());
    insta::assert_snapshot!("injection", roster.find("*)(uid=*\u{1b}[2J").unwrap_err());
    assert!(roster.find("").is_err());
}

#[test]
fn ten_megabytes_are_read_in_one_go() {
    let mut csv = format!("{HEADER}\n");
    for n in 0..120_000 {
        csv.push_str(&format!("E{n},Person {n},person.{n}@example.com,p{n:x}x,E1,Department,employee,active,,,\n"));
    }
    csv.push_str("E1,Again,,,,,,active,,,\n");
    assert!(csv.len() > 9_000_000);
    let message = complaint(&csv);
    assert!(message.contains("roster.csv:120002:1"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Roster::from_csv(&bytes, "roster.csv", None);
        let _ = Roster::from_csv(&[b"id,name,status\n".as_slice(), &bytes].concat(), "roster.csv", None);
    }

    #[test]
    fn no_text_makes_it_panic(csv in r#"(E1|,|"|\n|\r\n|active|2026-11-22|Asia/Kolkata|é|\x1b|;){0,60}"#) {
        if let Err(mistakes) = Roster::from_csv(format!("{HEADER}\n{csv}").as_bytes(), "roster.csv", None) {
            let shown = mistakes.render(false);
            prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{:?}", shown);
        }
    }

    #[test]
    fn what_a_spreadsheet_quotes_is_read_back(name in r#"[a-zA-Z,"éß]{1,20}"#) {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let roster = read(&format!("id,name,status\nE1,{quoted},active\n"));
        prop_assert_eq!(&roster.people()[0].name, &name);
    }
}
