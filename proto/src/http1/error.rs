//! Why a request was refused, and how that is said: one status and one text per reason.

/// A request head that is refused. The connection is answered and closed: where the next request
/// would start is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The first bytes are a TLS handshake.
    #[error(
        "this port speaks plain HTTP and was sent a TLS handshake; use http:// or configure \
             a certificate"
    )]
    TlsOnPlainPort,
    /// More than two empty lines before a request.
    #[error("too many empty lines before the request line")]
    EmptyLines,
    /// A line that ends in LF without CR.
    #[error("a line of the head ends in LF; it must end in CRLF")]
    BareLf,
    /// The method is not a token.
    #[error("the method is not a token of letters")]
    Method,
    /// A method longer than any that exists.
    #[error("the method is longer than 32 bytes")]
    MethodTooLong,
    /// Not `method SP target SP version`.
    #[error("the request line is not `method target HTTP/1.1`, each separated by one space")]
    RequestLine,
    /// A version of HTTP other than 1.x.
    #[error("this HTTP version is not supported here; use HTTP/1.1 or HTTP/2")]
    Version,
    /// A target in no form the method allows, or with an illegal character.
    #[error("the request target is malformed; percent-encode what is not a URL character")]
    Target,
    /// The target is over the limit.
    #[error("the request target is longer than {bytes_max} bytes")]
    TargetTooLong {
        /// [`super::Limits::target_bytes_max`].
        bytes_max: u16,
    },
    /// The head is over the limit.
    #[error("the request head is larger than {bytes_max} bytes")]
    HeadTooLarge {
        /// [`super::Limits::head_bytes_max`].
        bytes_max: u16,
    },
    /// Too many field lines.
    #[error("the request has more than {max} header fields")]
    TooManyHeaders {
        /// [`super::Limits::headers_max`].
        max: u16,
    },
    /// A field name that is not a token directly followed by a colon; line folding also ends here.
    #[error("a header field name is malformed, followed by a space, or a folded line")]
    FieldName,
    /// A control character in a field value.
    #[error("a header field value contains a control character")]
    FieldValue,
    /// HTTP/1.1 without Host.
    #[error("the Host header is missing; HTTP/1.1 requires it")]
    HostMissing,
    /// Two Host fields.
    #[error("the Host header is given more than once")]
    HostRepeated,
    /// Host is not `name[:port]`.
    #[error("the Host header is not a host name with an optional port")]
    HostInvalid,
    /// Content-Length is not a number that fits 64 bits.
    #[error("Content-Length is not a plain decimal number")]
    ContentLengthInvalid,
    /// Two different lengths.
    #[error("Content-Length is given more than once with different values")]
    ContentLengthRepeated,
    /// Both framings.
    #[error("Content-Length and Transfer-Encoding are both given; send one of them")]
    LengthAndChunked,
    /// Transfer-Encoding where chunked is not last, or is repeated.
    #[error("Transfer-Encoding is not exactly `chunked`")]
    TransferEncodingInvalid,
    /// A coding on top of chunked.
    #[error("Transfer-Encoding has a coding other than `chunked`; use Content-Encoding")]
    TransferEncodingUnsupported,
    /// Transfer-Encoding in HTTP/1.0.
    #[error("Transfer-Encoding is not part of HTTP/1.0; use Content-Length or HTTP/1.1")]
    TransferEncodingInHttp10,
    /// Expect other than `100-continue`.
    #[error("Expect has an expectation other than `100-continue`")]
    Expectation,
}

impl HeadError {
    /// The status of the answer. Its text is the `Display` form.
    pub const fn status(self) -> u16 {
        match self {
            Self::TargetTooLong { .. } => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge { .. } | Self::TooManyHeaders { .. } => 431,
            Self::MethodTooLong | Self::TransferEncodingUnsupported => 501,
            Self::Version => 505,
            Self::TlsOnPlainPort
            | Self::EmptyLines
            | Self::BareLf
            | Self::Method
            | Self::RequestLine
            | Self::Target
            | Self::FieldName
            | Self::FieldValue
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::ContentLengthInvalid
            | Self::ContentLengthRepeated
            | Self::LengthAndChunked
            | Self::TransferEncodingInvalid
            | Self::TransferEncodingInHttp10 => 400,
        }
    }

    /// Status and text of the answer.
    pub fn answer(self) -> (u16, String) {
        (self.status(), self.to_string())
    }
}

/// A request body that breaks its framing. Answered with 400 if nothing was answered yet, and the
/// connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// No hexadecimal digit where a chunk size must stand.
    #[error("a chunk size is not a hexadecimal number")]
    ChunkSize,
    /// A chunk size that does not fit 64 bits.
    #[error("a chunk size has more than 16 digits")]
    ChunkSizeTooLong,
    /// A chunk extension outside the grammar, or a bare LF or CR.
    #[error("a chunk extension is malformed or its line does not end in CRLF")]
    ChunkExtension,
    /// No CRLF after a chunk's data.
    #[error("the data of a chunk is not followed by CRLF")]
    ChunkEnd,
    /// A trailer line outside the grammar.
    #[error("a trailer field is malformed or its line does not end in CRLF")]
    Trailer,
    /// Extensions and trailers are over the limit.
    #[error("chunk extensions and trailers are larger than 8192 bytes")]
    Overhead,
}

impl BodyError {
    /// The status of the answer. Its text is the `Display` form.
    pub const fn status(self) -> u16 {
        match self {
            Self::Overhead => 431,
            Self::ChunkSize
            | Self::ChunkSizeTooLong
            | Self::ChunkExtension
            | Self::ChunkEnd
            | Self::Trailer => 400,
        }
    }

    /// Status and text of the answer.
    pub fn answer(self) -> (u16, String) {
        (self.status(), self.to_string())
    }
}
