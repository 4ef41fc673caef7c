//! Records of pax: what does not fit into a header.

/// What is known of the next entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pax {
    /// Its name.
    pub path: Option<Vec<u8>>,
    /// Where it leads.
    pub target: Option<Vec<u8>>,
    /// Its bytes.
    pub size: Option<u64>,
    /// Seconds since 1970.
    pub modified: Option<i64>,
}

impl Pax {
    /// Takes records.
    ///
    /// # Errors
    /// In words.
    pub fn read(&mut self, mut records: &[u8]) -> Result<(), String> {
        const BROKEN: &str = "has a record that is broken";
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or(BROKEN)?;
            let length = std::str::from_utf8(&records[..space]).ok().filter(|text| text.len() < 8).ok_or(BROKEN)?;
            let length: usize = length.parse().map_err(|_| BROKEN)?;
            let (record, rest) = records.split_at_checked(length).ok_or(BROKEN)?;
            let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(BROKEN)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BROKEN)?;
            self.set(&record[..equals], &record[equals + 1..])?;
            records = rest;
        }
        Ok(())
    }

    /// Takes records that hold for all entries: those that are of no consequence.
    ///
    /// # Errors
    /// In words.
    pub fn read_global(&mut self, records: &[u8]) -> Result<(), String> {
        self.read(records)?;
        // Of all entries at once: nobody writes so who means well.
        if self.path.is_some() || self.target.is_some() || self.size.is_some() {
            return Err("has one name or size for all entries".into());
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value).unwrap_or_default();
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.target = Some(value.to_vec()),
            b"size" => {
                let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let size = digits.and_then(|digits| digits.parse().ok()).filter(|size| *size <= i64::MAX as u64);
                self.size = Some(size.ok_or("has a size that is no number")?);
            }
            // With a fraction, mostly.
            b"mtime" => self.modified = text.split('.').next().and_then(|seconds| seconds.parse().ok()),
            key if key.starts_with(b"GNU.sparse.") => return Err("has a file with holes".into()),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_to_the_byte() {
        let mut pax = Pax::default();
        pax.read(b"13 path=a=b\n\n5").unwrap_err();
        let mut pax = Pax::default();
        pax.read(b"12 path=a=b\n19 mtime=-1.500000\n11 size=77\n21 SCHILY.xattr.x=yz\n").unwrap();
        assert_eq!((pax.path.as_deref(), pax.modified, pax.size), (Some(&b"a=b"[..]), Some(-1), Some(77)));
        for bad in [&b"x"[..], b"5", b"0 \n", b"4 a\n", b"99 path=a\n", b"11 size=-7\n", b"10 size=x\n", b"-1 a=b\n"] {
            assert!(Pax::default().read(bad).is_err(), "{bad:?}");
        }
        assert!(Pax::default().read(b"22 GNU.sparse.major=1\n").is_err());
        assert!(Pax::default().read_global(b"10 path=a\n").is_err());
        Pax::default().read_global(b"13 comment=a\n").unwrap();
    }
}
