//! Slots: what decides the partition of a tenant and of a visitor, in any language.

use crc::{CRC_16_XMODEM, Crc};
use events::{TenantId, VisitorId};

/// How many slots there are, for ever.
pub const SLOTS: u16 = 16_384;

/// The name of the slot hash in a genesis record. In Python: `binascii.crc_hqx(bytes, 0) % 16384`.
pub const SLOT_HASH: &str = "crc16-xmodem";

static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The slot of a tenant: of the 16 bytes of its UUID.
pub fn of_tenant(tenant: TenantId) -> u16 {
    CRC.checksum(tenant.uuid().as_bytes()) % SLOTS
}

/// The slot of a tenant's visitor: of the 16 bytes of the UUID and the 8 of the visitor, big-endian.
pub fn of_visitor(tenant: TenantId, visitor: VisitorId) -> u16 {
    let mut digest = CRC.digest();
    digest.update(tenant.uuid().as_bytes());
    digest.update(&visitor.get().to_be_bytes());
    digest.finalize() % SLOTS
}

/// Which partition serves which slot: ranges, ascending, without gap or overlap.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SlotTable(Vec<(u16, u16, u32)>);

impl SlotTable {
    /// Even ranges, one for each of 1 to 16,384 partitions.
    pub fn even(partitions: u32) -> Self {
        let first = |partition: u32| u64::from(partition) * u64::from(SLOTS) / u64::from(partitions.max(1));
        let range = |partition| {
            let (from, to) = (first(partition), first(partition + 1).saturating_sub(1));
            (
                u16::try_from(from).unwrap_or(0),
                u16::try_from(to).unwrap_or(SLOTS - 1),
                partition,
            )
        };
        Self((0..partitions.max(1)).map(range).collect())
    }

    /// Whether each slot has exactly one partition, and each of so many partitions at least one slot.
    pub fn is_complete(&self, partitions: u32) -> bool {
        let mut next = 0;
        for (first, last, partition) in &self.0 {
            if *first != next || last < first || *partition >= partitions {
                return false;
            }
            next = last.saturating_add(1);
        }
        next == SLOTS
            && (0..partitions).all(|wanted| self.0.iter().any(|(_, _, partition)| *partition == wanted))
    }

    /// The partition of a slot below [`SLOTS`].
    pub fn partition(&self, slot: u16) -> u32 {
        let range = self.0.partition_point(|(_, last, _)| *last < slot);
        self.0.get(range).map_or(0, |(_, _, partition)| *partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_hash_is_the_one_that_python_calls_crc_hqx() {
        assert_eq!(CRC.checksum(b"123456789"), 0x31C3);
        let tenant: TenantId = "0190b8a0-7a2e-7000-8000-000000000001".parse().expect("a uuid");
        // python3 -c 'import binascii,uuid;print(binascii.crc_hqx(uuid.UUID("…").bytes,0)%16384)'
        assert_eq!(of_tenant(tenant), TENANT_SLOT);
        assert_eq!(
            of_visitor(tenant, VisitorId::new(0x0123_4567_89ab_cdef)),
            VISITOR_SLOT
        );
    }

    const TENANT_SLOT: u16 = 8_074;
    const VISITOR_SLOT: u16 = 10_261;

    #[test]
    fn even_tables_give_every_slot_to_one_partition() {
        for partitions in [1, 2, 3, 4, 7, 64, 16_384] {
            let table = SlotTable::even(partitions);
            assert!(table.is_complete(partitions), "{partitions}");
            assert_eq!(table.partition(0), 0);
            assert_eq!(table.partition(SLOTS - 1), partitions - 1);
        }
    }

    #[test]
    fn a_table_with_a_gap_or_a_stranger_is_not_complete() {
        assert!(!SlotTable(vec![(0, 10, 0), (12, 16_383, 0)]).is_complete(1));
        assert!(!SlotTable(vec![(0, 16_383, 1)]).is_complete(1));
        assert!(!SlotTable(vec![(0, 16_383, 0)]).is_complete(2));
        assert!(!SlotTable(vec![(5, 4, 0), (5, 16_383, 0)]).is_complete(1));
        assert!(!SlotTable(vec![]).is_complete(1));
    }
}
