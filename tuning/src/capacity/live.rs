//! The calibrated model against a server that runs: what it should have used, and how far off it
//! is.

use super::calibration::Calibration;

/// What a server did over a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Activity {
    /// Sends to sockets.
    pub sends: f64,
    /// Messages in them.
    pub messages: f64,
    /// Events published.
    pub ingested: f64,
    /// Clients that connected.
    pub accepted: f64,
    /// Connections held, times seconds.
    pub connection_seconds: f64,
    /// Seconds between two heartbeats.
    pub heartbeat_s: f64,
    /// Over TLS.
    pub tls: bool,
}

/// What the model says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Predicted {
    /// CPU of the process, in seconds.
    pub cpu_seconds: f64,
    /// What the ledger has for a connection.
    pub connection_bytes: f64,
}

/// A warning begins here: a quarter off.
pub const DRIFT_LIMIT: f64 = 0.25;

/// How far a measured figure is from the model's, as a share: 0.3 is 30 % more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift(pub f64);

impl Drift {
    /// `None` where the model expects nothing.
    pub fn of(measured: f64, predicted: f64) -> Option<Self> {
        let sound = predicted > 0.0 && measured.is_finite() && predicted.is_finite();
        sound.then(|| Self(measured / predicted - 1.0))
    }

    /// Over the limit, in whichever direction.
    pub fn is_large(self) -> bool {
        self.0.abs() > DRIFT_LIMIT
    }
}

impl Calibration {
    /// What the server should have used.
    pub fn predict(&self, activity: &Activity) -> Predicted {
        let costs = if activity.tls { self.tls_costs.unwrap_or(self.costs) } else { self.costs };
        let heartbeats = activity.connection_seconds / activity.heartbeat_s.max(1.0);
        let micros = activity.sends * costs.send_us
            + activity.messages * costs.message_us
            + activity.ingested * costs.ingest_us
            + activity.accepted * costs.accept_us
            + heartbeats * costs.heartbeat_us;
        Predicted {
            cpu_seconds: micros / 1e6 * self.process_share,
            connection_bytes: if activity.tls { self.tls_ledger_bytes } else { self.ledger_bytes },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_off_is_drift_and_nothing_expected_is_not() {
        assert!(!Drift::of(1.25, 1.0).unwrap().is_large());
        assert!(Drift::of(1.26, 1.0).unwrap().is_large());
        assert!(Drift::of(0.74, 1.0).unwrap().is_large());
        assert_eq!(Drift::of(1.0, 0.0), None);
        assert_eq!(Drift::of(f64::NAN, 1.0), None);
    }
}
