//! The declarations of messages: types, reading and writing from one list of fields; see `value`.

/// Declares messages: the lifetime of what they borrow, the type, and every field with its number.
/// A field's name is its name in JSON.
macro_rules! messages {
    ($(
        $(#[$meta:meta])*
        $life:lifetime $name:ident $(<$own:lifetime>)? {
            $($(#[$doc:meta])* $number:literal $field:ident: $kind:ty,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct $name $(<$own>)? {
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl<$life> $crate::centrifuge::value::Message<$life> for $name $(<$own>)? {
            fn number_of(name: &str) -> Option<u32> {
                $(if name == stringify!($field) { return Some($number); })*
                let _ = name;
                None
            }

            fn merge_field(
                &mut self,
                number: u32,
                value: impl $crate::centrifuge::value::Source<$life>,
                budget: &mut $crate::centrifuge::value::Budget,
            ) -> Result<(), $crate::centrifuge::fault::Fault> {
                let _ = (&value, &budget);
                match number {
                    $($number => {
                        let takes = <$kind as $crate::centrifuge::value::Value<'_>>::TAKES_NULL;
                        if value.is_null() && !takes {
                            return Ok(());
                        }
                        let own = &mut self.$field;
                        let merged = $crate::centrifuge::value::Value::merge(own, value, budget);
                        merged.map_err(|fault| fault.at(stringify!($field)))
                    })*
                    _ => Ok(()),
                }
            }

            fn write_fields(&self, sink: &mut impl $crate::centrifuge::value::Sink) {
                $({
                    let field = $crate::centrifuge::value::Field {
                        number: $number,
                        name: stringify!($field),
                    };
                    $crate::centrifuge::value::Value::write(&self.$field, sink, field);
                })*
                let _ = sink;
            }

            fn guess(&self) -> usize {
                0 $(+ $crate::centrifuge::value::Value::guess(&self.$field))*
            }
        }
    )*};
}

/// Declares a group of message fields of which one is set.
macro_rules! choices {
    ($(
        $(#[$meta:meta])*
        $life:lifetime $name:ident {
            $($(#[$doc:meta])* $number:literal $wire:literal $variant:ident($kind:ty),)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name<$life> {
            $($(#[$doc])* $variant($kind),)*
        }

        impl<$life> $name<$life> {
            /// The name in JSON: of the method, the result or the kind of push.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $wire,)* }
            }

            pub(in $crate::centrifuge) fn number_of(name: &str) -> Option<u32> {
                match name { $($wire => Some($number),)* _ => None }
            }

            /// Reads one field into the choice that `slot` holds or gets by it.
            pub(in $crate::centrifuge) fn merge_field(
                slot: &mut Option<Self>,
                number: u32,
                value: impl $crate::centrifuge::value::Source<$life>,
                budget: &mut $crate::centrifuge::value::Budget,
            ) -> Result<(), $crate::centrifuge::fault::Fault> {
                match number {
                    _ if value.is_null() => Ok(()),
                    $($number => {
                        if slot.is_none() {
                            *slot = Some(Self::$variant(<$kind>::default()));
                        }
                        let Some(Self::$variant(message)) = slot else {
                            return Err($crate::centrifuge::fault::Fault::TwoMethods);
                        };
                        let merged =
                            $crate::centrifuge::value::Message::merge(message, value, budget);
                        merged.map_err(|fault| fault.at($wire))
                    })*
                    _ => Ok(()),
                }
            }

            pub(in $crate::centrifuge) fn write(
                &self,
                sink: &mut impl $crate::centrifuge::value::Sink,
            ) {
                match self {
                    $(Self::$variant(message) => {
                        let field =
                            $crate::centrifuge::value::Field { number: $number, name: $wire };
                        sink.message(field, self.guess(), |sink| {
                            $crate::centrifuge::value::Message::write_fields(message, sink);
                        });
                    })*
                }
            }

            pub(in $crate::centrifuge) fn guess(&self) -> usize {
                match self {
                    $(Self::$variant(message) => {
                        $crate::centrifuge::value::Message::guess(message)
                    })*
                }
            }
        }
    )*};
}

pub(super) use {choices, messages};
