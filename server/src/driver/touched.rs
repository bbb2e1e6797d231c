//! How much of the receive buffers is resident: pages are the process's from their first use on.
//! Pure; lives on the shard's thread.

/// The most that was ever written to each buffer, in whole pages.
#[derive(Debug)]
pub struct Touched {
    pages: Vec<u16>,
    page_bytes: usize,
    sum: usize,
}

impl Touched {
    /// `buffers` buffers that begin on page boundaries, untouched.
    pub fn new(buffers: u16) -> Self {
        let page_bytes = rustix::param::page_size();
        Self { pages: vec![0; usize::from(buffers)], page_bytes, sum: 0 }
    }

    /// Notes that `len` bytes were written to a buffer.
    pub fn note(&mut self, buffer: u16, len: u32) {
        let pages = (len as usize).div_ceil(self.page_bytes) as u16;
        let most = &mut self.pages[usize::from(buffer)];
        if pages > *most {
            self.sum += usize::from(pages - *most);
            *most = pages;
        }
    }

    /// Resident bytes, with this table's own.
    pub fn bytes(&self) -> usize {
        self.sum * self.page_bytes + self.pages.capacity() * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_counts_once_from_its_first_use_on() {
        let mut touched = Touched::new(4);
        let (own, page) = (touched.bytes(), rustix::param::page_size());
        for (buffer, len, pages) in
            [(0, 1, 1), (0, page, 1), (3, page + 1, 3), (0, 0, 3), (0, 2 * page, 4)]
        {
            touched.note(buffer, len as u32);
            assert_eq!(touched.bytes() - own, pages * page, "{buffer} {len}");
        }
    }
}
